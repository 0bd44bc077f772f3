"""pillarbox systemd-unit"""

import click

from pillarbox.app.unit_files import UnitNames, service_unit, socket_unit
from pillarbox.cli.options import config_option, config_path, read_config
from pillarbox.core.errors import Refused
from pillarbox.core.tally import SERVICES


@click.command(
    short_help="Print a unit for systemd.",
    epilog="Example: pillarbox systemd-unit > /etc/systemd/system/pillarbox.service",
)
@click.argument("service", required=False)
@config_option
def systemd_unit(service: str | None) -> None:
    """Print the unit that runs the configured server; with SERVICE (like imaps) that of its sockets.

    With units of sockets, systemd has the ports: then nobody is refused while the server starts
    again. Their names are pillarbox-SERVICE.socket.
    """
    config = read_config(as_server=False)
    if service is None:
        names = UnitNames.of_this_program(config_path())
        for note in names.notes(config):
            click.echo(f"Note: {note}", err=True)
        click.echo(service_unit(config, names), nl=False)
        return
    addresses = getattr(config.listen, service) if service in SERVICES else []
    if not addresses:
        raise Refused(f"[listen] names no address for {service}")
    click.echo(socket_unit(service, addresses), nl=False)
