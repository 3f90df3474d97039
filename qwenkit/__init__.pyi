# The front room for type checkers and editors; a test compares it with __init__.py.
from qwenkit.capacity.advice import ScalingContext as ScalingContext
from qwenkit.capacity.advice import advise as advise
from qwenkit.capacity.candidates import Objective as Objective
from qwenkit.capacity.environment import Environment as Environment
from qwenkit.capacity.recommend import recommend as recommend
from qwenkit.capacity.server import VllmServer as VllmServer
from qwenkit.capacity.simulate import simulate as simulate
from qwenkit.capacity.traffic import ClosedLoop as ClosedLoop
from qwenkit.capacity.traffic import bursts as bursts
from qwenkit.cluster.client import Cluster as Cluster
from qwenkit.cluster.deploy import wait_bound as wait_bound
from qwenkit.cluster.diagnosis.cold_start import cold_start as cold_start
from qwenkit.cluster.live_scaling import live_scaling as live_scaling
from qwenkit.cluster.scale import wait_replicas as wait_replicas
from qwenkit.cluster.scaling_change import change_scaling as change_scaling
from qwenkit.cluster.watching import ClusterWatch as ClusterWatch
from qwenkit.course.record import record as record
from qwenkit.inference.client import Server as Server
from qwenkit.loadtest.timeline import Timeline as Timeline
from qwenkit.manifests.lint import lint as lint
from qwenkit.manifests.render import as_documented as as_documented
from qwenkit.manifests.render import render as render
from qwenkit.manifests.scaling import scaling_spec as scaling_spec
from qwenkit.settings import Settings as Settings
from qwenkit.steps import apply as apply
from qwenkit.steps import audit as audit
from qwenkit.steps import deploy as deploy
from qwenkit.steps import doctor as doctor
from qwenkit.steps import explain as explain
from qwenkit.steps import find_server as find_server
from qwenkit.steps import run_load as run_load
from qwenkit.steps import teardown as teardown
from qwenkit.weights.progress import format_bytes as format_bytes
from qwenkit.weights.store import Weights as Weights
from qwenkit.widgets.cold_start_chart import cold_start_chart as cold_start_chart
from qwenkit.widgets.display import show_table as show_table
from qwenkit.widgets.display import show_yaml as show_yaml
from qwenkit.widgets.load_chart import load_chart as load_chart
from qwenkit.widgets.transfer_progress import TransferProgress as TransferProgress
from qwenkit.widgets.tuner import Tuner as Tuner

__version__: str
__all__: list[str]
