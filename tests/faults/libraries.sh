#!/bin/sh
# F3: another version of a library, or one without its functions, is told by name before anything is done with it.
cd "$(dirname "$0")/../.." || exit 1
quern=${QN_BUILD:-build/release}/quern
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
check() { # name, outcome of a test
    if [ "$2" = 0 ]; then echo "ok $1"; else echo "not ok $1"; cat "$dir/out" "$dir/err"; failed=1; fi
}
command -v gcc >/dev/null || { echo "skip libraries: no gcc to build them with"; exit 0; }
case ${QN_BUILD:-} in *asan* | *ubsan*) echo "skip libraries: a sanitizer's runtime must come first"; exit 0 ;; esac

stub() { # $1 file, $2 source
    printf '%s\n' "$2" | gcc -shared -fPIC -w -x c -o "$dir/$1" - || exit 1
}
old() { # name, library, source, version that is told: refused at start and by doctor
    stub old.so "$3"
    LD_PRELOAD=$dir/old.so "$quern" schema >"$dir/out" 2>"$dir/err"
    code=$?
    [ $code = 7 ] && [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/err")" = 1 ] &&
        grep -q "^error E7002 device: $2: version $4 is loaded; expected " "$dir/err"
    check "$1 is refused" $?
    LD_PRELOAD=$dir/old.so TMPDIR=$dir "$quern" doctor >"$dir/out" 2>"$dir/err"
    code=$?
    [ $code = 7 ] && grep -q "^$2 .*failed: install" "$dir/out" && grep -q "^error E7002 device: $2: " "$dir/err"
    check "$1 is in doctor's table" $?
}
old "an old zlib" zlib 'const char *zlibVersion(void) { return "1.1.4"; }' 1.1.4
old "another libpng" libpng 'const char *png_get_libpng_ver(void *p) { return "1.5.30"; }' 1.5.30
old "an old jansson" jansson 'const char *jansson_version_str(void) { return "1.3"; }' 1.3
old "another oneDNN" oneDNN 'struct v { int major, minor, patch; const char *hash; unsigned cpu, gpu; };
    const struct v *dnnl_version(void) { static struct v x = { 1, 7, 0, "", 0, 0 }; return &x; }' 1.7.0

# A library without its functions: the loader names the first that is missing. Which file that is, the program says.
name=$(ldd "$quern" | sed -n 's/^[[:space:]]*\(libjansson[^ ]*\) .*/\1/p')
if [ -n "$name" ]; then
    stub "$name" 'int nothing_of_use;'
    LD_LIBRARY_PATH=$dir "$quern" schema >"$dir/out" 2>"$dir/err"
    code=$?
    [ $code != 0 ] && [ ! -s "$dir/out" ] && grep -qE 'json_|jansson' "$dir/err"
    check "a missing function is named" $?
fi
exit $failed
