"""An Optuna storage of a single study that it can neither create nor change."""

from typing import Any, NoReturn

from optuna.storages import BaseStorage
from optuna.study import StudyDirection


class OneStudyStorage(BaseStorage):
    """The study methods of an Optuna storage, for a storage that has one study.

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
        """Returns one direction, maximise, as for all our studies."""
        return [StudyDirection.MAXIMIZE]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Returns nothing: user attributes of a study do not affect the search."""
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Returns the attributes that the study had when it was opened."""
        return self._system_attrs

    def get_all_studies(self) -> list[Any]:
        """Not supported."""
        self._refuse()

    def create_new_study(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Not supported."""
        self._refuse()

    def delete_study(self, study_id: int) -> NoReturn:
        """Not supported."""
        self._refuse()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        """Not supported."""
        self._refuse()

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        """Not supported."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotImplementedError(f"this storage has only study {self.name!r}")
