"""One machine for all: one learner, one sandbox, each in limits of its own (systemd keeps them).

``pip install jupyterhub jupyterhub-systemdspawner`` beside qwenkit, a proxy as JupyterHub asks for,
and ``COURSE=/opt/qwenkit jupyterhub -f deploy/jupyterhub/jupyterhub_config.py`` as root.
"""

import os
from pathlib import Path

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub's own

COURSE = os.environ.get("COURSE", str(Path(__file__).resolve().parents[2]))
c.JupyterHub.spawner_class = "systemd"
c.JupyterHub.concurrent_spawn_limit = 10
c.Spawner.cmd = [f"{COURSE}/deploy/jupyterhub/start"]
c.Spawner.default_url = "/qwenkit"
c.Spawner.start_timeout = c.Spawner.http_timeout = 300
# Ports of a sandbox are free ones, its folder is in the learner's home, its label is its folder's.
c.Spawner.environment = {"COURSE": COURSE, "PATH": f"{COURSE}/.venv/bin:/usr/bin:/bin"}
# Measured: see README.md. The same as in values.yaml.
c.Spawner.mem_limit = "2G"
c.Spawner.cpu_limit = 2.0
c.SystemdSpawner.isolate_tmp = True
