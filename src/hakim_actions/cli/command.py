"""The kind of command that all of ours are: it tells every wrong value at once."""

from collections.abc import Iterator, Sequence

import click

from hakim_actions.errors import ConfigurationError


class Command(click.Command):
    """A command whose options are all looked at, where click stops at the first wrong one.

    In a workflow each try takes minutes.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read *args* and the variables; raise ConfigurationError for several wrong values."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter:
            problems = list(self._problems(ctx, given))
            if len(problems) == 1:
                raise
        msg = f"{len(problems)} values are missing or cannot be used."
        raise ConfigurationError(msg, hint=f"Try '{ctx.command_path} --help'.", problems=problems)

    def _problems(self, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
        values, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.get_params(ctx):
            try:
                parameter.handle_parse_result(ctx, values, rest)
            except click.BadParameter as error:
                yield error.format_message()
