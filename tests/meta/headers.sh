#!/bin/sh
# Each public header compiles alone, as pedantic C11 and as C++17.
cd "$(dirname "$0")/../.." || exit 1
status=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
try() { # name, then the compiler and its options
    name=$1
    shift
    if "$@" >"$log" 2>&1; then
        echo "ok $name"
    else
        cat "$log"
        echo "not ok $name"
        status=1
    fi
}
warn="-Wall -Wextra -Wpedantic -Wshadow -Werror -fsyntax-only"
for header in include/quern.h include/quern/*.h; do
    try "$header as C11" gcc -std=c11 $warn -Wstrict-prototypes -x c "$header"
    if command -v g++ >/dev/null; then
        try "$header as C++17" g++ -std=c++17 $warn -x c++ "$header"
    else
        echo "skip $header as C++17: no g++"
    fi
done
exit $status
