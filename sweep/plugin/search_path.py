"""Where Hydra finds the settings of studies, in whatever program: sweep/conf, after the program's own conf."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class StudySearchPath(SearchPathPlugin):
    """Lets every Hydra program say `hydra/sweeper=study`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add sweep/conf behind what is there; its names are our own, so that it hides nobody's."""
        search_path.append(provider="sweep", path="pkg://sweep.conf")
