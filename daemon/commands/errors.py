"""Translation of errors of services and libraries into one line and an exit code. Used by `daemon.cli`."""

from __future__ import annotations

import click
from docker.errors import DockerException
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from daemon.commands.exit_codes import BadInput, Refused
from daemon.embedded_redis import CannotStartRedis
from daemon.errors import OperationFailed
from portal.database import is_locked
from portal.rules.allowlist import ImageNotAllowed
from portal.rules.outside_text import clean_text
from portal.rules.references import InvalidReference
from portal.services.errors import InvalidError, ServiceError
from portal.settings import SettingsError

_MAX_CHARACTERS = 10_000


def to_click_error(error: Exception) -> click.ClickException:
    """Return the error message for operators, `BadInput` for invalid input and `Refused` for any other error."""
    if isinstance(error, SettingsError):
        return BadInput(f"Invalid settings:\n{error}")
    if isinstance(error, InvalidError | InvalidReference):
        return BadInput(error.for_operators if isinstance(error, InvalidError) else str(error))
    # Engines and registries choose a part of these texts.
    return Refused(clean_text(_describe_error(error), _MAX_CHARACTERS))


def _describe_error(error: Exception) -> str:
    match error:
        case ServiceError():
            text = error.for_operators
        case ImageNotAllowed() | CannotStartRedis() | OperationFailed():
            text = str(error)
        case OperationalError() | ProgrammingError() if _is_missing_table(error):
            text = "The database is not up to date. Run `flask --app portal.wsgi:create_wsgi db upgrade` first."
        case SQLAlchemyError() if is_locked(error):
            text = "The database is locked, because another process has not ended its transaction. Try again."
        case SQLAlchemyError():
            text = f"The database cannot be used ({type(error).__name__}). Check DATABASE_URL."
        case UnicodeError():
            text = "A text that was read, such as a password or a file, is not valid UTF-8. Check its encoding."
        case RedisError():
            text = "Redis cannot be reached. Check REDIS_URL or start `flotilla redis`."
        case DockerException():
            text = f"The Docker engine returned an error or did not answer: {error}"
        case _:
            text = f"Unexpected {type(error).__name__}: {error}. Run `flotilla --debug …` to see the traceback."
    return text


def _is_missing_table(error: OperationalError | ProgrammingError) -> bool:
    text = str(error.orig)
    return "no such " in text or "does not exist" in text
