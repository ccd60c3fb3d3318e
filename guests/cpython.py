"""Runs one module of CPython's own tests, and says of each test how it ended: nothing that is chance, and no times.

cpython.py MODULE [PATTERN of tests to leave out]...

The tests may use what they use by default: no network, nothing that is long or eats the machine. OM_DETAILS names a file
for what the tests complain about; it is for a person who looks for a cause.
"""

import fnmatch
import os
import sys
import tempfile
import unittest

from test import support

QUIET = os.environ.pop("OM_DETAILS", os.devnull)


def flat(tests):
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def without(suite, patterns):
    """The same suite, with its modules' and classes' own setting up, and without some tests."""
    kept = [test for test in flat(suite) if not any(fnmatch.fnmatchcase(test.id(), "*" + p) for p in patterns)]
    return unittest.TestSuite(kept)


class Told(unittest.TestResult):
    """Tells each test's end by a line on what was standard output at the start."""

    def __init__(self, out):
        super().__init__()
        self.out = out
        self.ended = {}

    def worse(self, test, how):
        # A test that fails in a part of itself is told of as a whole.
        test = getattr(test, "test_case", test)
        ranks = ["ok", "skip", "FAIL"]
        before = self.ended.get(test.id(), "ok")
        self.ended[test.id()] = max(before, how, key=ranks.index)
        if not isinstance(test, unittest.TestCase):
            # The setting up of a class or module.
            self.tell(test)

    def tell(self, test):
        os.write(self.out, f"{self.ended.pop(test.id(), 'ok')} {test.id()}\n".encode())

    def startTest(self, test):
        super().startTest(test)
        print("==", test.id(), file=sys.stderr, flush=True)

    def stopTest(self, test):
        super().stopTest(test)
        self.tell(test)

    def complain(self, test, error):
        self.worse(test, "FAIL")
        print("FAIL", test.id(), self._exc_info_to_string(error, test), file=sys.stderr, flush=True)

    def addError(self, test, error):
        self.complain(test, error)

    addFailure = addError

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.complain(test, error)

    def addSkip(self, test, reason):
        self.worse(test, "skip")
        print("skip", test.id(), reason, file=sys.stderr, flush=True)

    def addUnexpectedSuccess(self, test):
        self.worse(test, "FAIL")


def main():
    module, *patterns = sys.argv[1:]
    out = os.dup(1)
    details = os.open(QUIET, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(details, 1)
    os.dup2(details, 2)
    os.close(details)
    support.use_resources = []
    support.verbose = 0
    result = Told(out)
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as directory:
        os.chdir(directory)
        suite = unittest.defaultTestLoader.loadTestsFromName("test." + module)
        without(suite, patterns).run(result)
        support.reap_children()
        os.chdir("/")


if __name__ == "__main__":
    main()
