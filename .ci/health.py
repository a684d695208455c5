"""Asks a server for its health as a Python client does: `health.py ADDRESS NAME…` prints `NAME STATUS` lines.

The channel is made for each run and the answer waited for, so that no status is older than the question.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

address, *names = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in names:
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        except grpc.RpcError as error:
            word = error.code().name
        print(name, word)
