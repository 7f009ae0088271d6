#!/bin/sh
# The short run of every fuzz target, the same each time; `make fuzz` is the long one.
# run-tests: timeout 600
case ${QN_BUILD:-build/release} in
*release) exec "$(dirname "$0")/../../scripts/fuzz" --runs 20000 ;;
*) echo "skip fuzzing: has its own sanitizer build, run with the release tests" ;;
esac
