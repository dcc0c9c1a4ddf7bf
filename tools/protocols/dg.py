"""Domain generalisation: the runs of xd that test the variants of ImageNet."""

from dataclasses import replace

from tools.protocols import xd

PROTOCOL = replace(
    xd.PROTOCOL,
    name="dg",
    title="Domain generalisation",
    tests=xd.IMAGENETS,
    takes=lambda run: run.part == "train" or run.tested in xd.IMAGENETS,
    published="domain_generalisation",
    rank=30,
)
