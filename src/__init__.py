"""Mobile networks found by architecture search: training, evaluation and search on MindSpore.

Importing this package fixes what must be settled before MindSpore is loaded.
"""

import os

# OpenMP threads sleep at barriers instead of spinning: on shared cores spinning threads starve the
# data pipeline (measured: 110 against 66 images/s when training MnasNet on two cores).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Framework messages from level ERROR on (3); its start-up INFO and WARNING lines are not for users.
os.environ.setdefault("GLOG_v", "3")
# A daemon may have closed its standard streams. The first files to be opened would take their numbers, and whoever
# prints, the framework's C++ among them, would write into those files.
for _descriptor in range(3):
    try:
        os.fstat(_descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDWR)
