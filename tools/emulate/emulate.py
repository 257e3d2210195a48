"""Our tests on a processor that is not here: Bochs emulates one, Linux boots on it, the tests run.

usage: emulate.py [--cpu corei7_icelake_u] [--toy FOLDER] [FILTER …]

Runs the unit and integration tests whose names contain a FILTER (default: matrix products but the
longest test) on one thread of an emulated processor. With --toy, also `encircle bench-toy` on what
tools/peers/tico_toy.py wrote to FOLDER; its error figures must be those of this processor, to the last
digit. `bochs-bin --help cpu` lists processors: corei7_icelake_u has AVX-512 with VNNI, corei7_skylake_x
AVX-512 without, corei5_lynnfield_750 no AVX (and other roundings). Exit code 0 if all is well. A vector
instruction takes about a microsecond, so choose tests that take less than a second here.

Needs Debian's bochs, bochs-term, busybox-static, cpio, isolinux and xorriso.
"""

import argparse
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNEL = "linux-image-cloud-amd64"
LIBRARIES = ("libc.so.6", "libm.so.6", "libgcc_s.so.1")
LOADER = "/lib64/ld-linux-x86-64.so.2"
# What Bochs 2.7 announces but does not do as Linux 6.1 expects.
UNSOUND = "smap,smep,umip,fsrm,erms,pku,ospke,xsaves,xsavec,ibt,shstk"
PRODUCTS = [
    "gemm::whole",
    "gemm::gather",
    "gemm::kernel",
    "products_equal_the_definition",
    "every_instruction_set",
]
COMMAND_LINE = (
    "initrd=/initrd console=ttyS0 quiet mitigations=off tsc=reliable lpj=1000000 noreplace-smp idle=poll "
    "lapic=notscdeadline nohz=off highres=off nopku nopcid noinvpcid nofsgsbase no5lvl "
    f"clearcpuid={UNSOUND}"
)
MACHINE = """megs: 2048
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=boot.iso, status=inserted
boot: cdrom
cpu: model={cpu}, ips=200000000
clock: sync=none
com1: enabled=1, mode=file, dev=serial.txt
display_library: term
log: bochs.txt
panic: action=fatal
error: action=ignore
info: action=ignore
speaker: enabled=0
sound: driver=dummy, waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
"""
INIT = """#!/bin/busybox sh
alias b=/bin/busybox
b mount -t proc proc /proc
b mount -t tmpfs tmp /tmp
cd /tmp
export RAYON_NUM_THREADS=1
failed=0
b grep -m1 "model name" /proc/cpuinfo
b grep -m1 flags /proc/cpuinfo | b grep -o "avx[^ ]*" | b tr "\\n" " "
echo
"""


def run(command, **options):
    return subprocess.run(command, check=True, **options)


def built(path):
    """encircle and its unit and integration tests, stripped, as `path`/encircle, /unit, /it."""
    command = ["cargo", "test", "--release", "--no-run", "--message-format=json"]
    command += ["--lib", "--bin", "encircle", "--test", "it"]
    lines = run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    for artifact in map(json.loads, lines):
        executable = artifact.get("executable")
        if executable:
            kind = artifact["target"]["kind"]
            test = artifact["profile"]["test"]
            name = {"lib": "unit", "test": "it"}.get(kind[0]) if test else "encircle"
            if name:
                run(["strip", "-o", os.path.join(path, name), executable])


def job(toy):
    """Arguments of encircle for the toy in this folder."""
    return ["bench-toy", f"{toy}/checkpoint", f"{toy}/inputs.safetensors", "--repeat", "1", "--json"]


def system(root, filters, toy):
    """Fills `root`: what the kernel unpacks as its first file system."""
    for place in ("bin", "proc", "dev", "tmp", "lib64", "lib/x86_64-linux-gnu"):
        os.makedirs(os.path.join(root, place))
    shutil.copy("/bin/busybox", root + "/bin")
    shutil.copy(os.path.realpath(LOADER), root + LOADER)
    for library in LIBRARIES:
        library = "/lib/x86_64-linux-gnu/" + library
        shutil.copy(os.path.realpath(library), root + library)
    built(root + "/bin")
    # Tests find their data where they were compiled.
    for data in ("tests/data", "assets"):
        shutil.copytree(os.path.join(ROOT, data), root + os.path.join(ROOT, data))
    init = INIT
    for program in ("unit", "it"):
        init += f"/bin/{program} --test-threads 1 {' '.join(filters)} || failed=1\n"
    if toy:
        shutil.copytree(toy, root + "/toy")
        init += f"/bin/encircle {' '.join(job('/toy'))} || failed=1\n"
    # Its serial line is slower than its end.
    init += "echo STATUS $failed\nb sleep 1\nb poweroff -f\n"
    with open(root + "/init", "w") as file:
        file.write(init)
    os.chmod(root + "/init", 0o755)


def disc(folder, root):
    """Writes `folder`/boot.iso: a boot loader, Debian's kernel, and `root`."""
    iso = os.path.join(folder, "iso")
    os.makedirs(os.path.join(iso, "isolinux"))
    depends = run(["apt-cache", "depends", KERNEL], stdout=subprocess.PIPE, text=True).stdout
    image = re.search(r"Depends: (\S+)", depends)[1]
    download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", image]
    run(download, cwd=folder, stdout=subprocess.DEVNULL)
    package = next(name for name in os.listdir(folder) if name.endswith(".deb"))
    run(["dpkg", "-x", package, "kernel"], cwd=folder)
    images = os.path.join(folder, "kernel", "boot")
    linux = next(name for name in os.listdir(images) if name.startswith("vmlinuz"))
    shutil.copy(os.path.join(images, linux), os.path.join(iso, "vmlinuz"))
    with open(os.path.join(iso, "initrd"), "wb") as file:
        run("find . | cpio -o -H newc --quiet", shell=True, cwd=root, stdout=file)
    loader = os.path.join(iso, "isolinux")
    shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", loader)
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", loader)
    with open(os.path.join(loader, "isolinux.cfg"), "w") as file:
        file.write(f"DEFAULT linux\nLABEL linux\n KERNEL /vmlinuz\n APPEND {COMMAND_LINE}\n")
    start = "-b isolinux/isolinux.bin -c isolinux/catalog -no-emul-boot -boot-load-size 4 -boot-info-table"
    command = ["xorriso", "-as", "mkisofs", "-o", "boot.iso", *start.split(), "iso"]
    run(command, cwd=folder, stderr=subprocess.DEVNULL)


def drain(path):
    """Reads the screen, which nobody looks at, so that writing to it never blocks."""
    with open(path, "rb", buffering=0) as screen:
        try:
            while screen.read(1 << 16):
                pass
        except OSError:
            pass


def boot(folder, cpu):
    """Runs the machine until it turns itself off; what it wrote to its serial line."""
    with open(os.path.join(folder, "machine"), "w") as file:
        file.write(MACHINE.format(cpu=cpu))
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ["TERM"] = "xterm"
        os.execvp("bochs-bin", ["bochs-bin", "-q", "-f", "machine"])
    seen = b""
    try:
        while chunk := os.read(terminal, 1 << 16):
            seen += chunk
            if screen := re.search(rb'connected to screen "([^"]+)"', seen):
                threading.Thread(target=drain, args=(screen[1],), daemon=True).start()
                seen = seen[screen.end() :]
            if b"<bochs:" in seen:  # its debugger waits for a word
                seen = b""
                os.write(terminal, b"c\n")
    except OSError:
        pass
    os.waitpid(child, 0)
    with open(os.path.join(folder, "serial.txt"), errors="replace") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("filters", nargs="*", metavar="FILTER", default=PRODUCTS)
    parser.add_argument("--cpu", default="corei7_icelake_u")
    parser.add_argument("--toy")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.join(folder, "system")
        system(root, a.filters, a.toy)
        if a.toy:
            done = run([root + "/bin/encircle", *job(a.toy)], stdout=subprocess.PIPE)
            expected = json.loads(done.stdout)["error"]
        disc(folder, root)
        said = boot(folder, a.cpu)
    print(said)
    if a.toy:
        found = re.search(r'"error":({[^}]*})', said)
        if not found or json.loads(found[1]) != expected:
            sys.exit(f"the toy's error figures are not those of this processor: {expected}")
    if not re.search(r"^running [1-9]", said, re.MULTILINE):
        sys.exit(f"no test's name contains one of: {' '.join(a.filters)}")
    sys.exit(0 if "STATUS 0" in said else 1)


if __name__ == "__main__":
    main()
