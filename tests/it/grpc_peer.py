"""Both ends of gRPC for a test, without generated code: `grpc_peer.py server` prints its port and serves until its standard
input ends; `grpc_peer.py client ADDRESS` makes calls of every kind and fails where an answer is not the one expected."""
import sys
import threading
import time
from concurrent import futures

import grpc

CANCELLED = threading.Semaphore(0)


def unary(request, context):
    context.set_trailing_metadata((("x-trailing", "t"), ("x-bytes-bin", b"\x00\xff")))
    context.send_initial_metadata((("x-initial", dict(context.invocation_metadata()).get("x-sent", "")),))
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: \u00e4")


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def talk(requests, context):
    for request in requests:
        yield b"re: " + request


def hang(request, context):
    context.add_callback(CANCELLED.release)
    while context.is_active():
        time.sleep(0.01)
    yield b""


def was_cancelled(request, context):
    return b"yes" if CANCELLED.acquire(timeout=5) else b"no"


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
}


def server():
    serving = grpc.server(futures.ThreadPoolExecutor(16))
    serving.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Test", HANDLERS),))
    print(serving.add_insecure_port("127.0.0.1:0"), flush=True)
    serving.start()
    sys.stdin.read()
    serving.stop(0)


def expect(what, is_so, seen=None):
    if not is_so:
        sys.exit(f"{what}: {seen!r}")
    print("ok", what, flush=True)


def status_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return None, None


def client(address):
    channel = grpc.insecure_channel(address)
    call = channel.unary_unary("/t.Test/Unary")
    answer, done = call.with_call(b"hello", metadata=(("x-sent", "s"),), timeout=10)
    expect("unary", answer == b"hello" and dict(done.initial_metadata()).get("x-initial") == "s", answer)
    trailing = dict(done.trailing_metadata())
    expect("trailing metadata", trailing == {"x-trailing": "t", "x-bytes-bin": b"\x00\xff"}, trailing)
    large = bytes(range(256)) * (3 << 12)
    expect("large messages", call(large, timeout=10) == large)
    code, details = status_of(lambda: channel.unary_unary("/t.Test/Fail")(b"", timeout=10))
    expect("a status", code == grpc.StatusCode.NOT_FOUND and details == "no such thing: \u00e4", (code, details))
    code, _ = status_of(lambda: channel.unary_unary("/t.Test/Nothing")(b"", timeout=10))
    expect("an unknown method", code == grpc.StatusCode.UNIMPLEMENTED, code)
    counted = [int(item) for item in channel.unary_stream("/t.Test/Count")(b"1000", timeout=10)]
    expect("a stream of answers", counted == list(range(1000)), len(counted))
    summed = channel.stream_unary("/t.Test/Total")((str(n).encode() for n in range(1000)), timeout=10)
    expect("a stream of requests", summed == b"499500", summed)
    turn = threading.Semaphore(1)

    def words():
        for number in range(20):
            turn.acquire()
            yield str(number).encode()

    said = []
    for answer in channel.stream_stream("/t.Test/Talk")(words(), timeout=10):
        said.append(answer)
        turn.release()
    expect("a talk in turns", said == [b"re: " + str(n).encode() for n in range(20)], said)
    hanging = channel.unary_stream("/t.Test/Hang")
    code, _ = status_of(lambda: list(hanging(b"", timeout=0.3)))
    expect("a deadline", code == grpc.StatusCode.DEADLINE_EXCEEDED, code)
    was_cancelled = channel.unary_unary("/t.Test/WasCancelled")
    expect("the server hears of it", was_cancelled(b"", timeout=10) == b"yes")
    streaming = hanging(b"")
    time.sleep(0.1)
    streaming.cancel()
    expect("a cancelled call", status_of(lambda: list(streaming))[0] == grpc.StatusCode.CANCELLED)
    expect("the server hears of that", was_cancelled(b"", timeout=10) == b"yes")


def refused(address):
    channel = grpc.insecure_channel(address)
    code, details = status_of(lambda: channel.unary_unary("/t.Test/Unary")(b"", timeout=10))
    expect("nobody there", code == grpc.StatusCode.UNAVAILABLE and details.startswith("upstream_connect: "), (code, details))
    code, details = status_of(lambda: channel.unary_unary("/other/Unary")(b"", timeout=10))
    expect("no route", code == grpc.StatusCode.UNIMPLEMENTED and details.startswith("no_route: "), (code, details))


if __name__ == "__main__":
    {"server": server, "client": client, "refused": refused}[sys.argv[1]](*sys.argv[2:])
