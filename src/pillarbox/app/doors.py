"""The ways in that the configuration opens besides the built-in passwords."""

from pillarbox.auth.outside import Doors
from pillarbox.auth.peer import BadToken
from pillarbox.auth.source import make_source
from pillarbox.auth.tokens import make_verifier, user_of
from pillarbox.config.schema import Config
from pillarbox.core.secret import Secret


def make_doors(config: Config) -> Doors:
    """Raises Refused."""
    verifier = make_verifier(config.oauth)

    def user_of_token(token: Secret) -> str | BadToken:
        assert verifier is not None
        claims = verifier.claims(token)
        return claims if isinstance(claims, BadToken) else user_of(claims, config.oauth)

    return Doors(
        make_source(config.directory),
        config.directory.create_accounts,
        None if verifier is None else user_of_token,
        config.oauth.configuration_url,
    )
