#!/usr/bin/env python3
"""What docker-compose.yml uses of the official entrypoint: the first user, from then on nobody else comes in."""

import os
import subprocess
import time
from pathlib import Path

import pymongo

DATA = Path("/data/db")
USERS = DATA / ".with-users"
# Alone, or its clients would look for it under the name that it has inside.
SERVER = [
    "secantusd-py",
    "--storage-path",
    str(DATA / "db"),
    "--port",
    "27017",
    "--standalone",
    "--sync-on-commit",
]


def add_user(name, password):
    server = subprocess.Popen([*SERVER, "--host", "127.0.0.1"])
    with pymongo.MongoClient("mongodb://127.0.0.1:27017") as client:
        client.admin.command("createUser", name, pwd=password, roles=["root"])
    USERS.touch()
    time.sleep(0.2)
    server.terminate()
    server.wait()


user = os.environ.get("MONGO_INITDB_ROOT_USERNAME")
if user and not USERS.exists():
    add_user(user, os.environ["MONGO_INITDB_ROOT_PASSWORD"])
os.execvp(SERVER[0], [*SERVER, "--host", "0.0.0.0", *(["--auth"] if USERS.exists() else [])])
