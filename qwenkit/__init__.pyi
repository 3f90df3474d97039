# The front room for type checkers and editors; a test compares it with __init__.py.
from qwenkit.capacity.search.autoscalers import compare_autoscalers as compare_autoscalers
from qwenkit.capacity.search.candidates import Objective as Objective
from qwenkit.capacity.simulation.traffic import bursts as bursts
from qwenkit.cluster.change.proposal import propose_change as propose_change
from qwenkit.cluster.client import Cluster as Cluster
from qwenkit.cluster.deploy import wait_bound as wait_bound
from qwenkit.cluster.diagnosis.cold_start import cold_start as cold_start
from qwenkit.cluster.live_scaling import live_scaling as live_scaling
from qwenkit.course.record import record as record
from qwenkit.exercises.checking import answer as answer
from qwenkit.exercises.checking import check as check
from qwenkit.in_cluster.weights import Weights as Weights
from qwenkit.loadtest.canary import Canary as Canary
from qwenkit.loadtest.comparison import compare as compare
from qwenkit.loadtest.gate import Gate as Gate
from qwenkit.loadtest.prediction import predict as predict
from qwenkit.loadtest.story import start_test as start_test
from qwenkit.loadtest.story import wake as wake
from qwenkit.manifests.lint import lint as lint
from qwenkit.settings import Settings as Settings
from qwenkit.steps import apply as apply
from qwenkit.steps import audit as audit
from qwenkit.steps import deploy as deploy
from qwenkit.steps import doctor as doctor
from qwenkit.steps import explain as explain
from qwenkit.steps import find_server as find_server
from qwenkit.steps import render as render
from qwenkit.steps import teardown as teardown
from qwenkit.widgets.autoscaler_chart import autoscaler_chart as autoscaler_chart
from qwenkit.widgets.canary_chart import canary_chart as canary_chart
from qwenkit.widgets.cold_start_chart import cold_start_chart as cold_start_chart
from qwenkit.widgets.display import show_table as show_table
from qwenkit.widgets.display import show_yaml as show_yaml
from qwenkit.widgets.latency_chart import latency_chart as latency_chart
from qwenkit.widgets.live_load import LiveLoad as LiveLoad
from qwenkit.widgets.live_output import LiveWait as LiveWait
from qwenkit.widgets.load_chart import load_chart as load_chart
from qwenkit.widgets.transfer_progress import TransferProgress as TransferProgress
from qwenkit.widgets.tuner import Tuner as Tuner
from qwenkit.workshop.front import Workshop as Workshop

__version__: str
__all__: list[str]
