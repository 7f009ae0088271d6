#!/bin/sh
# What the library shows to the linker: only qn_ symbols, all that the headers declare, the right soname, and no
# state that could change behind the caller's back.
cd "$(dirname "$0")/../.." || exit 1
build=${QN_BUILD:-build/release}
so=$build/libquern.so
status=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
verdict() { # $1 name; fails if the file $dir/bad holds anything
    if [ -s "$dir/bad" ]; then
        cat "$dir/bad"
        echo "not ok $1"
        status=1
    else
        echo "ok $1"
    fi
}

nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' | sort >"$dir/exported"
[ -s "$dir/exported" ] || echo "no exported symbol" >"$dir/bad"
grep -v '^qn_[a-z]' "$dir/exported" | grep -v -e '^__asan' -e '^__odr_asan' >>"$dir/bad"
verdict "only qn_ symbols are exported"

: >"$dir/bad"
# Names that follow QN_API in a header, comments removed.
gcc -E -P -Iinclude -include stddef.h include/quern.h 2>/dev/null | tr '\n' ' ' |
    grep -o 'visibility("default")))[^;{]*' | grep -o '\bqn_[a-z0-9_]* *(' | tr -d ' (' | sort -u >"$dir/declared"
[ -s "$dir/declared" ] || echo "no declaration found" >"$dir/bad"
comm -23 "$dir/declared" "$dir/exported" | sed 's/$/ is declared but not in the library/' >>"$dir/bad"
comm -13 "$dir/declared" "$dir/exported" | grep -v __ | sed 's/$/ is exported but in no header of quern.h/' >>"$dir/bad"
verdict "headers and library agree"

: >"$dir/bad"
readelf -d "$so" | grep -q 'SONAME.*\[libquern\.so\.0\]' || echo "soname is not libquern.so.0" >"$dir/bad"
[ "$(readlink "$so")" = libquern.so.0 ] || echo "libquern.so does not link to libquern.so.0" >>"$dir/bad"
readelf -d "$so" | grep -e RPATH -e RUNPATH >>"$dir/bad"
verdict "soname, links and no search path"

case $build in
*release)
    : >"$dir/bad"
    readelf -lW "$so" | grep -q GNU_RELRO || echo "no RELRO" >>"$dir/bad"
    readelf -d "$so" | grep -q BIND_NOW || echo "not bound at start" >>"$dir/bad"
    readelf -lW "$so" | grep 'GNU_STACK' | grep -q 'RWE' && echo "executable stack" >>"$dir/bad"
    nm "$so" | grep -q '__stack_chk_fail' || echo "no stack protector" >>"$dir/bad"
    verdict "hardening"

    # Constants live in .rodata and .data.rel.ro; whatever is in .data or .bss can be written.
    objdump -t "$build/libquern.a" |
        awk '/ O \.(data|bss|data\.rel|data\.rel\.local|tbss|tdata)\t/ { print $NF " can be written" }' >"$dir/bad"
    verdict "no global state that changes"
    ;;
esac

: >"$dir/bad"
nm -g --defined-only "$build/libquern.a" 2>/dev/null | awk 'NF == 3 { print $3 }' |
    grep -v -e '^qn_' -e '^cpu_' -e '^__asan' -e '^__odr_asan' -e '^_GLOBAL_' >"$dir/bad"
verdict "only qn_, qn__ and cpu_ names in the archive"
exit $status
