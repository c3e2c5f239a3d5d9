"""``leveret completion``: shell completion of subcommands and options."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_LEVERET_COMPLETE"  # click's variable for requesting completions of a command of this name


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete subcommands and options.

    \b
    bash:  eval "$(leveret completion bash)"                            in ~/.bashrc
    zsh:   eval "$(leveret completion zsh)"                             in ~/.zshrc
    fish:  leveret completion fish > ~/.config/fish/completions/leveret.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # click has these three
    click.echo(found(ctx.find_root().command, {}, "leveret", VARIABLE).source())
