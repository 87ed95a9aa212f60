"""An Optuna storage of a single study that is neither made nor changed through it."""

from typing import Any, NoReturn

from optuna.storages import BaseStorage
from optuna.study import StudyDirection


class OneStudyStorage(BaseStorage):
    """What Optuna asks a storage about studies, for a storage that has one.

    Args:
        study_id: the database's id of the study.
        name: of the study.
        system_attrs: of the study.
    """

    def __init__(self, study_id: int, name: str, system_attrs: dict[str, Any]) -> None:
        self.study_id = study_id
        self.name = name
        self._system_attrs = system_attrs

    def get_study_id_from_name(self, study_name: str) -> int:
        """Returns the database's id of the study."""
        if study_name != self.name:
            raise KeyError(f"this is study {self.name!r}")
        return self.study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        """Returns the name of the study."""
        return self.name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Returns that the study maximises one value, as all of ours do."""
        return [StudyDirection.MAXIMIZE]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Returns nothing: what people note on a study decides nothing."""
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Returns what the study had when it was opened."""
        return self._system_attrs

    def get_all_studies(self) -> list[Any]:
        """Refuses."""
        self._refuse()

    def create_new_study(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuses."""
        self._refuse()

    def delete_study(self, study_id: int) -> NoReturn:
        """Refuses."""
        self._refuse()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        """Refuses."""
        self._refuse()

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        """Refuses."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotImplementedError(f"this storage only has study {self.name!r}")
