"""How the server refuses: its own codes, as `apiserver/apierrors/errors.conf` has them."""


class ApiError(Exception):
    """A request that is refused.

    Args:
        code: HTTP status.
        subcode: the server's own.
        message: what is wrong.
    """

    def __init__(self, code: int, subcode: int, message: str) -> None:
        super().__init__(message)
        self.code, self.subcode = code, subcode


def unknown_endpoint(name: str) -> ApiError:
    return ApiError(404, 0, f"Unable to find endpoint for name {name}")


def missing_fields(message: str) -> ApiError:
    return ApiError(400, 11, f"Missing required fields: {message}")


def invalid(message: str) -> ApiError:
    return ApiError(400, 12, f"Validation error: {message}")


def unknown_field(message: str) -> ApiError:
    return ApiError(400, 14, f"Fields not defined for object: {message}")


def no_items() -> ApiError:
    return ApiError(400, 17, "Batch request contains no items")


def bad_value(message: str) -> ApiError:
    return ApiError(400, 16, f"Invalid value for fields: {message}")


def no_task(task_id: object) -> ApiError:
    return ApiError(400, 101, f"Invalid task id: id={task_id}")


def wrong_status(message: str) -> ApiError:
    return ApiError(400, 110, f"Invalid task status: {message}")


def not_deletable(message: str) -> ApiError:
    return ApiError(400, 123, f"Task cannot be deleted: {message}")


def events_not_added(problems: dict[str, int]) -> ApiError:
    return ApiError(400, 131, f"Events not added: {problems}")


def no_model(model_id: object) -> ApiError:
    return ApiError(400, 201, f"Invalid model id: id={model_id}")


def no_project(project_id: object) -> ApiError:
    return ApiError(400, 401, f"Invalid project id: id={project_id}")


def bad_document(message: str) -> ApiError:
    return ApiError(400, 800, f"Data validation error: {message}")


def not_unique(message: str) -> ApiError:
    return ApiError(400, 801, f"Value combination already exists: {message}")


def bad_credentials() -> ApiError:
    return ApiError(401, 22, "Unauthorized (invalid credentials): failed to locate them")


def no_credentials() -> ApiError:
    return ApiError(401, 20, "Unauthorized (missing credentials)")


def bad_token(message: str) -> ApiError:
    return ApiError(401, 30, f"Invalid token: {message}")
