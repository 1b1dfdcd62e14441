"""Show by gradients which places of an image its score comes from, and test how faithful each map is."""

from jobs.command.entry import run
from jobs.command.result_folder import check_result_folder
from jobs.settings.explaining import ExplainSettings, check


def main(settings: ExplainSettings) -> None:
    """Show by gradients which places of an image its score comes from, and test how faithful each map is.

    Images of the tables need only --output and --image-id.
    """
    check(settings)
    check_result_folder(settings.place_flag, settings.place)
    from jobs.explained.run import explain  # tables and pictures take a second to load, so wrong settings are answered first

    explain(settings)


if __name__ == "__main__":
    run(main)
