"""Which server for which model on which GPU: images, architectures, flags and contradictions.

``DOCUMENTATION`` is the page that the course follows and that is meant by "the documentation".
"""

DOCUMENTATION = (
    "Deploy a vLLM inference application with Knative, https://www.alibabacloud.com/help/en/ack/"
    "ack-managed-and-ack-dedicated/user-guide/deploy-a-vllm-inference-application-based-on-knative"
)
