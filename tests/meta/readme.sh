#!/bin/sh
# The README's first C program compiles as a user would compile it, and runs. Where the program needs an argument or
# a file, the README says how to run it in the comment of its first line: /* run: ARGUMENTS */; "run: no" only compiles.
# run-tests: timeout 300
cd "$(dirname "$0")/../.." || exit 1
top=$PWD
build=${QN_BUILD:-build/release}
grep -q '^```c$' README.md 2>/dev/null || { echo "skip the README's program: README.md has none"; exit 0; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
awk '/^```c$/ { inside = 1; next } /^```$/ && inside { exit } inside' README.md >"$dir/program.c"
sanitize=
case $build in
*asan) sanitize=-fsanitize=address,undefined ;;
*ubsan) sanitize=-fsanitize=undefined ;;
esac
if ! gcc -std=c11 -Wall -Wextra -Wpedantic -Werror $sanitize -Iinclude "$dir/program.c" -o "$dir/program" \
    "$build/libquern.a" -fopenmp -ldnnl -ljansson -lpng -lz -lm; then
    echo "not ok the README's program compiles"
    exit 1
fi
echo "ok the README's program compiles"
arguments=$(sed -n '1,3s|.*run: *\(.*[^ ]\) *\*/.*|\1|p' "$dir/program.c")
[ "$arguments" = no ] && { echo "skip the README's program runs: the README says how it is run"; exit 0; }
cd "$dir" || exit 1
ln -s "$top/recipes" recipes 2>/dev/null
if ./program $arguments; then
    echo "ok the README's program runs"
else
    echo "not ok the README's program runs"
    exit 1
fi
