"""A SLURM of this machine for one command: nothing outside of its namespaces reaches it, and it ends with them.

`python slurm.py FOLDER COMMAND...` runs a command beside munged, slurmctld and slurmd, whose files lie in FOLDER.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("unshare", "ip", "munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo")
ALONE = ("unshare", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")  # loopback is all there is
UP_SECONDS = 120
CONFIG = """\
ClusterName=loopback
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not():
    """Why there can be none here; empty: there can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"SLURM needs {', '.join(missing)}, which Debian has in slurm-wlm, util-linux and iproute2"
    alone = subprocess.run([*ALONE, "true"], capture_output=True, text=True)
    return f"SLURM needs namespaces of its own: {alone.stderr.strip()}" if alone.returncode else ""


def run(folder, *command, **options):
    """Run a command beside a SLURM."""
    return subprocess.run(
        [*ALONE, sys.executable, __file__, str(folder), *map(str, command)], capture_output=True, text=True, **options
    )


def main():
    """Start it, run the command, and leave the rest to the end of the namespaces."""
    folder, *command = sys.argv[1:]
    folder = Path(folder)
    _prepare(folder)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    names = {name: f"--{name.replace('_', '-')}={folder / name}" for name in ("key_file", "pid_file", "log_file")}
    munged = ["munged", "-F", "-f", "-S", folder / "munge.socket", f"--seed-file={folder / 'seed'}", *names.values()]
    conf = folder / "slurm.conf"
    with (folder / "daemons.log").open("w") as log:
        for daemon in (munged, ["slurmctld", "-D", "-f", conf], ["slurmd", "-D", "-f", conf]):
            subprocess.Popen(list(map(str, daemon)), stdout=log, stderr=log)
    give_up = time.monotonic() + UP_SECONDS
    while "idle" not in (said := subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)).stdout:
        if time.monotonic() > give_up:
            sys.exit(f"no node: {said.stdout}{said.stderr}{(folder / 'daemons.log').read_text()}")
        time.sleep(0.5)
    wanted, ended, status = subprocess.Popen(command).pid, None, 0
    while ended != wanted:  # we are the first process here, whose children are all that lost their parents
        ended, status = os.wait()
    sys.exit(os.waitstatus_to_exitcode(status))


def _prepare(folder):
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "key_file").write_bytes(os.urandom(128))
    (folder / "key_file").chmod(0o600)
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder))
    socket.sethostname("localhost")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # names are not looked up as long as there is no address but 127.0.0.1; this one is nobody's (RFC 5737)
    subprocess.run(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"], check=True)


if __name__ == "__main__":
    main()
