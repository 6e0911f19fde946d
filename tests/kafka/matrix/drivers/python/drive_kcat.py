"""The driver of kcat. It has no life of its own beyond one kcat process a run of records with the same headers: a flush is the
end of kcat's input, and so is a commit. Settings are librdkafka's own. kcat reads far ahead before it sends the first record,
so that a transaction that was aborted would not have sent any.

Texts only: kcat splits its input at bytes 1 and 2, and prints headers as text."""

import subprocess
import sys
import tempfile
import threading

import lines

KCAT = ["setpriv", "--pdeathsig", "KILL", "--", "kcat"]  # It does not outlive its driver.
KEY_END, RECORD_END = b"\x01", b"\x02"
DELIVERED, FAILED = "% Message delivered to partition ", "Delivery failed for message: "
CODES = {"Topic authorization failed": 29, "Broker failed to validate record": 87}


def options(settings, leave_out=()):
    return [word for name, value in settings.own.items() if name not in leave_out for word in ("-X", f"{name}={value}")]


class Sending:
    """One kcat that produces."""

    def __init__(self, settings, style):
        topic, partition, headers, without_key, without_value = self.style = style
        command = [*KCAT, "-P", "-vvv", "-m", "30", "-b", settings.bootstrap, "-t", topic, "-D", "\\x02", *options(settings)]
        command += [] if partition is None else ["-p", str(partition)]
        command += [] if without_key else ["-K", "\\x01"]
        command += ["-Z"] if without_value else []
        command += [word for header in headers for word in ("-H", header)]
        self._says = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._says)
        self._count = 0

    def send(self, record):
        key = b"" if record["key"] is None else record["key"] + KEY_END
        self._process.stdin.write(key + (record["value"] or b"") + RECORD_END)
        self._process.stdin.flush()
        self._count += 1

    def finish(self):
        """The answers, in order."""
        self._process.stdin.close()
        self._process.wait(90)
        self._says.seek(0)
        said = self._says.read().splitlines()
        answers = [answer for answer in map(answer_of, said) if answer]
        missing = self._count - len(answers)
        return answers + [{"error": -1, "message": said[-1] if said else "nothing said"}] * missing


def answer_of(line):
    if line.startswith(DELIVERED):
        partition, offset = line.removeprefix(DELIVERED).split(" (offset ")
        return {"partition": int(partition), "offset": int(offset.split(")")[0])}
    if FAILED in line:
        return {"error": code_of(line), "message": line}
    return None


def code_of(line):
    return next((code for text, code in CODES.items() if text in line), -1)


def produce(settings):
    sending = None

    def finish():
        if sending:
            for answer in sending.finish():
                lines.answer(**answer)

    for told in lines.told():
        order = told.get("do")
        if order == "commit" or (order == "flush" and "transactional.id" not in settings.own):
            finish()
            sending = None
        if order:
            continue
        style = style_of(told)
        if sending is None or sending.style != style:
            finish()
            sending = Sending(settings, style)
        sending.send(told)
    finish()


def style_of(record):
    headers = tuple(f"{name}={value.decode()}" for name, value in record["headers"])
    return record["topic"], record.get("partition"), headers, record["key"] is None, record["value"] is None


def follow(settings):
    closed = lines.input_closed()
    command = [*KCAT, "-q", "-u", "-m", "30", "-b", settings.bootstrap, "-f", "%p %o %T %K %S\n%k%s%h\n",
               "-X", "auto.offset.reset=earliest", *options(settings, leave_out=["group.id"])]
    if settings.fetch_bytes:
        command += ["-X", f"fetch.message.max.bytes={settings.fetch_bytes}"]
    if "group.id" in settings.own:
        command += ["-G", settings.own["group.id"], settings.topic]
    else:
        start = settings.from_offset if settings.from_offset is not None else "beginning"
        command += ["-C", "-t", settings.topic, "-o", f"s@{settings.from_time}" if settings.from_time is not None else str(start)]
    kcat = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    threads = [threading.Thread(target=relay, args=(kcat,)) for relay in (relay_records, relay_errors)]
    for thread in threads:
        thread.start()
    closed.wait()
    kcat.terminate()  # It commits what it has read, leaves the group and ends.
    kcat.wait(30)
    for thread in threads:
        thread.join()
    lines.answer_end({})


def relay_records(kcat):
    while head := kcat.stdout.readline():
        partition, offset, timestamp, key, value = map(int, head.split())
        key, value = (None if size < 0 else kcat.stdout.read(size) for size in (key, value))
        headers = kcat.stdout.readline().decode().rstrip("\n")
        lines.answer_record(partition, offset, timestamp, key, value,
                            [(name, content.encode()) for name, content in (pair.split("=", 1) for pair in headers.split(",") if pair)])


def relay_errors(kcat):
    for line in kcat.stderr:
        if b"ERROR" in line:
            lines.answer(error=code_of(line.decode()), message=line.decode().strip())


def main():
    command, settings = lines.arguments(sys.argv[1:])
    if command == "version":
        said = subprocess.run(["kcat", "-V"], stdout=subprocess.PIPE, text=True, check=True).stdout
        version, library = said.split("Version ")[1].split(" ")[0], said.split("librdkafka ")[1].split(" ")[0]
        lines.answer(version=f"kcat {version}, librdkafka {library}")
    else:
        {"produce": produce, "follow": follow}[command](settings)


main()
