"""The cluster: apply, wait, find the gateway, explain a failure, tear down."""
