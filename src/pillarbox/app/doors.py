"""The ways in that the configuration opens besides the built-in passwords."""

from pillarbox.auth.outside import Doors
from pillarbox.auth.source import make_source
from pillarbox.auth.tokens import TokenUsers, make_verifier
from pillarbox.config.schema import Config


def make_doors(config: Config) -> Doors:
    """Raises Refused."""
    verifier = make_verifier(config.oauth)
    return Doors(
        make_source(config.directory),
        config.directory.create_accounts,
        None if verifier is None else TokenUsers(verifier, config.oauth),
        config.oauth.configuration_url,
    )
