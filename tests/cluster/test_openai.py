"""OpenAI's own client against a real cluster: the API tests, on a tiny model over two stages."""
import os
import subprocess
import sys

from harness import SOURCE, Serve, Skip, run

TESTS = ["test_completions.py", "test_chat.py"]


def client_tests():
    skipped = []
    with Serve(workers=2) as serve:
        for name in TESTS:
            p = subprocess.run([sys.executable, str(SOURCE / "tests" / "api" / name)], capture_output=True, text=True,
                               timeout=300, env=dict(os.environ, CORDEE_TEST_URL=f"http://127.0.0.1:{serve.port}"))
            assert p.returncode in (0, 77), f"{name}:\n{p.stdout[-3000:]}{p.stderr[-3000:]}"
            skipped += [name] if p.returncode == 77 else []
        assert serve.stop() == 0
    if len(skipped) == len(TESTS):
        raise Skip("needs the Python package openai")


if __name__ == "__main__":
    run(client_tests)
