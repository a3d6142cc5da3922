#!/usr/bin/env python3
"""A visitor who chats in JSON, by protocol/README.md. Usage: chat.py [http://127.0.0.1:8600 [COUNT]]
Every line typed is said; what the other side says is printed and acknowledged. It comes back after a lost connection,
and neither loses nor doubles a message. With COUNT it ends when that many texts came and its own were all accepted."""
import base64, collections, hashlib, json, os, random, socket, struct, sys, threading, time, urllib.parse, urllib.request

class WebSocket:  # RFC 6455, as much as a client of text needs (wss:// is one line more: ssl.wrap_socket)
    def __init__(self, url, subprotocol):
        at, key = urllib.parse.urlsplit(url), base64.b64encode(os.urandom(16)).decode()
        self.tcp, self.lock = socket.create_connection((at.hostname, at.port or 80), 15), threading.Lock()
        self.incoming = self.tcp.makefile("rb")
        self.tcp.sendall("\r\n".join([f"GET {at.path} HTTP/1.1", f"Host: {at.netloc}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
            f"Sec-WebSocket-Protocol: {subprotocol}", "\r\n"]).encode())
        head = b"".join(iter(self.incoming.readline, b"\r\n"))
        if base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()) not in head:
            raise ConnectionError(head.decode("latin-1"))

    def send(self, payload, opcode=1):
        mask, size = os.urandom(4), len(payload)
        head = struct.pack("!BB", 128 | opcode, 128 | size) if size < 126 else struct.pack("!BBH", 128 | opcode, 254, size)
        with self.lock:
            self.tcp.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))

    def receive(self):  # the server sends text in one frame; its pings may come at any time
        while True:
            opcode, size = self.incoming.read(2) or (0x88, 0)
            size = size if size < 126 else int.from_bytes(self.incoming.read(2 if size == 126 else 8), "big")
            payload = self.incoming.read(size)
            if opcode == 0x81:
                return payload.startswith(b"[") and json.loads(payload) or [json.loads(payload)]
            if opcode == 0x88:
                raise ConnectionError(f"closed {int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}")
            if opcode == 0x89:
                self.send(payload, 10)

class Chat:
    def __init__(self, http, count):
        request = urllib.request.Request(http + "/api/visitor/token", b"{}", {"Content-Type": "application/json"})
        self.visitor, self.session = json.load(urllib.request.urlopen(request)), f"{random.getrandbits(64) | 1:016x}"
        self.outbox, self.cursors, self.last_n, self.count = collections.deque(), {}, 0, float(count)
        self.open, self.failures = False, 0

    def put(self, kind, **fields):
        self.socket.send(json.dumps({"kind": kind, "ts": time.time_ns() // 1000, **fields}).encode())

    def say_next(self):  # one at a time; its number is one more than the last accepted, and a repeat does no harm
        if self.open and self.outbox:
            self.put("send", n=self.last_n + 1, text=self.outbox[0])

    def run(self):
        self.socket = WebSocket(self.visitor["ws_url"], "tidegate.v1.json")
        cursors = [{"conversation": key, "incarnation": i, "seq": seq} for key, (i, seq) in self.cursors.items()]
        self.put("hello", token=self.visitor["token"], session=self.session, family="app", cursors=cursors)
        while self.outbox or self.count > 0:
            for envelope in self.socket.receive():
                getattr(self, "on_" + envelope["kind"], lambda _: None)(envelope)

    def on_welcome(self, welcome):
        self.open = True
        self.socket.tcp.settimeout(3 * welcome["heartbeat_ms"] / 1000)  # the server pings who is silent for long
        for resumed in welcome.get("conversations", []):  # not recovered: older messages are read over HTTP
            self.on_conversation_state(resumed["state"], 0 if resumed.get("recovered") else resumed["state"].get("seq", 0))
        self.say_next()

    def on_conversation_state(self, state, skip_to=0):
        held = self.cursors.get(state["conversation"], (0, 0))[1]
        self.cursors[state["conversation"]] = (state["incarnation"], max(held, skip_to))

    def on_send_result(self, result):
        outcome = result["outcome"]
        settled = outcome in ("accepted", "duplicate", "refused")  # else: busy, keep it and try again
        if result["n"] == self.last_n + 1:
            if settled:
                self.last_n += outcome != "refused"
                print(f"[{outcome}] {self.outbox.popleft()}", flush=True)
            threading.Timer(0 if settled else result.get("retry_ms", 1000) / 1000, self.say_next).start()

    def on_message(self, message):
        incarnation, held = self.cursors.get(message["conversation"], (0, 0))
        self.cursors[message["conversation"]] = (incarnation, max(held, message["seq"]))
        if message["seq"] > held and message["sender_role"] != "visitor":
            print(f"{message.get('sender_name', '*')}: {message.get('text') or message.get('system')}", flush=True)
            self.count -= "text" in message
        self.put("ack", conversation=message["conversation"], delivered=max(held, message["seq"]))

    def listen(self):
        for line in filter(str.strip, sys.stdin):
            self.outbox.append(line.strip())
            self.say_next()

chat = Chat(*(sys.argv[1:] + ["http://127.0.0.1:8600", "inf"][len(sys.argv) - 1:])[:2])
threading.Thread(target=chat.listen, daemon=True).start()
while chat.outbox or chat.count > 0:
    try:
        chat.run()
    except (OSError, ValueError) as error:
        chat.open, chat.failures = False, 0 if chat.open else chat.failures + 1
        print(f"[reconnecting] {error}", file=sys.stderr)
        time.sleep(random.random() * min(30, 2 ** chat.failures))
