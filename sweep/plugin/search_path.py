"""The place where Hydra finds the settings of studies, in any program: sweep/conf, after the program's own conf."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class StudySearchPath(SearchPathPlugin):
    """A Hydra plugin that lets every Hydra program use `hydra/sweeper=study`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append sweep/conf to the search path; its names are our own, so it hides nobody's."""
        search_path.append(provider="sweep", path="pkg://sweep.conf")
