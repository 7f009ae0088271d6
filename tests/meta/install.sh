#!/bin/sh
# `make install` under a PREFIX gives a library that pkg-config finds, that a program links against, shared and
# static, and that `make uninstall` removes without a trace.
cd "$(dirname "$0")/../.." || exit 1
build=${QN_BUILD:-build/release}
case $build in
*release) ;;
*) echo "skip install: only the release build is installed"; exit 0 ;;
esac
command -v pkg-config >/dev/null || { echo "skip install: no pkg-config"; exit 0; }
status=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
verdict() { # $1 name; the status of the command before decides
    if [ "$2" = 0 ]; then echo "ok $1"; else cat "$dir/log"; echo "not ok $1"; status=1; fi
}
make -s install BUILD="$build" DESTDIR="$dir/root" PREFIX=/opt/quern >"$dir/log" 2>&1
verdict "make install" $?

export PKG_CONFIG_PATH=$dir/root/opt/quern/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dir/root
cat >"$dir/version.c" <<'END'
#include <quern.h>
#include <string.h>
int main(void) { return strcmp(qn_version(), QN_VERSION) != 0; }
END
[ "$(pkg-config --modversion quern)" = "$(sed -n 's/^#define QN_VERSION "\(.*\)"/\1/p' include/quern/base.h)" ] \
    2>"$dir/log"
verdict "pkg-config knows the version" $?
{ gcc "$dir/version.c" -o "$dir/shared" $(pkg-config --cflags --libs quern) &&
    LD_LIBRARY_PATH=$dir/root/opt/quern/lib "$dir/shared"; } >"$dir/log" 2>&1
verdict "a program runs with the installed shared library" $?
{ gcc "$dir/version.c" -o "$dir/static" $(pkg-config --cflags quern) \
    "$dir/root/opt/quern/lib/libquern.a" $(pkg-config --static --libs-only-l quern | sed 's/-lquern//') &&
    "$dir/static"; } >"$dir/log" 2>&1
verdict "a program runs with the installed static library" $?
if [ -x "$build/quern" ]; then
    "$dir/root/opt/quern/bin/quern" --version >"$dir/log" 2>&1
    verdict "the installed command runs" $?
fi
make -s uninstall BUILD="$build" DESTDIR="$dir/root" PREFIX=/opt/quern >"$dir/log" 2>&1
find "$dir/root" ! -type d >>"$dir/log"
find "$dir/root" -name 'quern' -type d ! -path "$dir/root/opt/quern" >>"$dir/log"
[ ! -s "$dir/log" ]
verdict "make uninstall leaves nothing" $?
exit $status
