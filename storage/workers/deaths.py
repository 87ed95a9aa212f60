"""Where workers live and died: a place is a machine and a device there, such as ``oak cuda:1``."""

from collections import Counter
from collections.abc import Mapping

import sqlalchemy

from canopy_search.storage.workers.registry import LEFT

# Whoever died a moment ago will be replaced, if it has a launcher.
_LIVING_PLACES = sqlalchemy.text(f"""
    SELECT DISTINCT host || ' ' || slot FROM canopy_worker
    WHERE study_id = :study_id AND (ended IS NULL OR (
        end_reason <> '{LEFT}' AND ended > clock_timestamp() - interval '1 minute'))
""")  # noqa: S608 - our own text
_DEATHS = sqlalchemy.text(f"""
    SELECT CAST(doing ->> 'trial' AS int) AS number, host || ' ' || slot AS place
    FROM canopy_worker
    WHERE study_id = :study_id AND ended IS NOT NULL AND end_reason <> '{LEFT}'
      AND CAST(doing ->> 'trial' AS int) = ANY(:numbers) ORDER BY ended DESC
""")  # noqa: S608 - likewise


def living_places(connection: sqlalchemy.Connection, study_id: int) -> set[str]:
    """Returns the places where workers of a study live, or died less than a minute ago."""
    return set(connection.scalars(_LIVING_PLACES, {"study_id": study_id}))


def places_of_deaths(
    connection: sqlalchemy.Connection, study_id: int, deaths: Mapping[int, int]
) -> dict[int, Counter[str]]:
    """Returns where the latest workers died that died on trials, by trial number.

    Args:
        connection: in a transaction.
        study_id: of the study.
        deaths: trial number → number of these deaths.
    """
    found: dict[int, Counter[str]] = {number: Counter() for number in deaths}
    values = {"study_id": study_id, "numbers": list(deaths)}
    for number, place in connection.execute(_DEATHS, values):
        if found[number].total() < deaths[number]:
            found[number][place] += 1
    return found
