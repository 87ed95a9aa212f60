"""As much of SLURM as submitit and Canopy see of it: a queue on this machine, in a folder.

It is run under the names of SLURM's commands. `FOLDER_VARIABLE` names the folder: a file for each
job, and ``slots``, which says how many may run at a time.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil

FOLDER_VARIABLE = "SLURM_JOBS_FOLDER"


class Cluster:
    """All jobs.

    Args:
        folder: that they are in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = {
            path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))
        }

    def save(self, number: str) -> None:
        (self.folder / f"{number}.json").write_text(json.dumps(self.jobs[number]))

    def schedule(self) -> None:
        """Notices which jobs have ended, and begins others as far as there is room."""
        for number, job in self.jobs.items():
            if job["state"] in {"RUNNING", "COMPLETING"} and not living(job["group"]):
                ended = self.folder / f"{number}.exit"
                status = ended.read_text().strip() if ended.exists() else "killed"
                job["state"] = {"0": "COMPLETED"}.get(status, "FAILED")
                if job["cancelled"]:
                    job["state"] = "CANCELLED"
                self.save(number)
        running = sum(job["state"] in {"RUNNING", "COMPLETING"} for job in self.jobs.values())
        slots = int((self.folder / "slots").read_text())
        for number, job in self.jobs.items():
            if job["state"] == "PENDING" and running < slots:
                running += 1
                self._begin(number)

    def _begin(self, number: str) -> None:
        job = self.jobs[number]
        script = self.folder / f"{number}.sh"
        command = 'bash "$0"; echo $? > "$1"'
        with Path(job["options"]["output"].replace("%j", number)).open("a") as output:
            process = subprocess.Popen(
                ["bash", "-c", command, str(script), str(self.folder / f"{number}.exit")],
                env={**os.environ, "SLURM_JOB_ID": number},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        job.update(state="RUNNING", group=process.pid)
        self.save(number)


def living(group: int) -> list[psutil.Process]:
    """Returns the processes of a job; one that has not begun has 0 for a group."""
    found: list[psutil.Process] = []
    if not group:
        return found
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def sbatch(cluster: Cluster, arguments: list[str]) -> None:
    """Takes a job, unless it asks for a partition that there is not."""
    text = Path(arguments[-1]).read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.MULTILINE))
    if options.get("partition") != "short":
        sys.exit(
            "sbatch: error: invalid partition specified: "
            f"{options.get('partition')}\nsbatch: error: Batch job submission failed: "
            "Invalid partition name specified"
        )
    number = str(len(cluster.jobs) + 1)
    (cluster.folder / f"{number}.sh").write_text(text)
    cluster.jobs[number] = {"state": "PENDING", "options": options, "group": 0, "cancelled": False}
    cluster.save(number)
    cluster.schedule()
    print(f"Submitted batch job {number}")  # noqa: T201


def squeue(cluster: Cluster, arguments: list[str]) -> None:
    """Says in which states jobs are."""
    cluster.schedule()
    asked = next(each for each in arguments if each.startswith("--jobs=")).split("=")[1].split(",")
    for number in asked:
        state = cluster.jobs[number]["state"]
        host = "" if state == "PENDING" else "node-1"
        print(f"{number}|{state}|{host}|{'Resources' if state == 'PENDING' else 'None'}")  # noqa: T201


def scancel(cluster: Cluster, arguments: list[str]) -> None:
    """Takes jobs out of the queue, or signals all processes of those that run."""
    numbers = [each for each in arguments if not each.startswith("-")]
    how = signal.SIGKILL if "--signal=KILL" in arguments else signal.SIGTERM
    for number in numbers:
        job = cluster.jobs[number]
        job["cancelled"] = True
        if job["state"] == "PENDING":
            job["state"] = "CANCELLED"
        for process in living(job["group"]):
            for each in (signal.SIGCONT, how):
                process.send_signal(each)
        cluster.save(number)


def srun(arguments: list[str]) -> None:
    """Runs what follows its options, and writes where they say."""
    files = {}
    while arguments[0].startswith("--"):
        option = arguments.pop(0)
        if option in {"--output", "--error"}:
            name = arguments.pop(0).replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
            files[option] = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(files["--output"], 1)
    os.dup2(files["--error"], 2)
    variables = {**os.environ, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    os.execvpe(arguments[0], arguments, variables)  # noqa: S606


def main() -> None:
    """Does what the command of this name does."""
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    if name == "srun":
        srun(arguments)
    folder = Path(os.environ[FOLDER_VARIABLE])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        {"sbatch": sbatch, "squeue": squeue, "scancel": scancel}[name](Cluster(folder), arguments)


if __name__ == "__main__":
    main()
