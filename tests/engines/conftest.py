"""The contract of language models lies with the other contracts; here it meets engines that take minutes to build."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "contract"))
