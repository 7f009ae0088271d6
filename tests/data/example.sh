#!/bin/sh
# The program in the manual of include/quern/data.h compiles as a user would compile it, and runs.
cd "$(dirname "$0")/../.." || exit 1
build=${QN_BUILD:-build/release}
[ -f "$build/libquern.a" ] || { echo "skip the data chapter's program: no $build/libquern.a"; exit 0; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
# The indented lines of the first comment, from the first #include to the closing brace of main.
sed -n '/^ \*     #include/,/^ \*     }$/p' include/quern/data.h | sed 's/^ \* \{0,5\}//' >"$dir/program.c"
sanitize=
case $build in
*asan) sanitize=-fsanitize=address,undefined ;;
*ubsan) sanitize=-fsanitize=undefined ;;
esac
if ! gcc -std=c11 -Wall -Wextra -Wpedantic -Werror $sanitize -Iinclude "$dir/program.c" \
    -o "$dir/program" "$build/libquern.a" -fopenmp -ldnnl -ljansson -lpng -lz -lm -lpthread; then
    echo "not ok the data chapter's program compiles"
    exit 1
fi
echo "ok the data chapter's program compiles"
lines=$("$dir/program" | grep -c '^samples ')
if [ "$lines" = 7 ]; then
    echo "ok the data chapter's program makes 7 batches of 800 samples"
else
    echo "not ok the data chapter's program makes 7 batches of 800 samples: $lines"
    exit 1
fi
