#!/bin/sh
# B1, B2, B3: sizes that are too large, empty or do not fit are refused with one line that names the layer, and a run
# that needs more memory than there is ends before it takes any.
cd "$(dirname "$0")/../.." || exit 1
quern=${QN_BUILD:-build/release}/quern
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
range='expected an integer 1..1048576'
window='height of 28, padded to 28, under a window of 31; expected at least 31'
number='[0-9.]+'
data='data={"digits":200,"validation":0.1}'

refused() { # name, exit code, expected line, recipe, settings...
    name=$1 want=$2 line=$3 recipe=$4
    shift 4
    for s in "$@"; do set -- "$@" --set "$s"; shift; done
    "$quern" train "recipes/$recipe.json" --set "$data" "$@" --epochs 1 --out "$dir/runs" >"$dir/out" 2>"$dir/err"
    code=$?
    if [ $code = "$want" ] && [ "$(cat "$dir/err")" = "$line" ] && [ ! -d "$dir/runs" ]; then
        echo "ok $name"
    else
        echo "not ok $name: exit code $code, expected $want and: $line"
        cat "$dir/err"
        failed=1
    fi
}

refused "beyond every integer" 2 \
    'error E2108 config: --set model[1].linear=9007199254740991: model[1].linear: 9007199254740991; '"$range" \
    mlp-784-128 'model[1].linear=9007199254740991'
refused "no features" 2 \
    'error E2108 config: --set model[1].linear=0: model[1].linear: 0; expected an integer 1..1048576' \
    mlp-784-128 'model[1].linear=0'
refused "negative features" 2 \
    'error E2108 config: --set model[1].linear=-3: model[1].linear: -3; expected an integer 1..1048576' \
    mlp-784-128 'model[1].linear=-3'
refused "no layers" 2 \
    'error E2115 config: --set model=[]: model: empty; expected at least one layer' mlp-784-128 'model=[]'
refused "a window larger than the image" 2 \
    "error E2203 shape: conv1: conv2d: $window; operands [128,1,28,28] [32,1,31,31]" \
    cnn-32-64-64 'model[0].kernel=31'

# B3: a limit on the address space far below the need; the line says what for, and the largest batch that fits.
case ${QN_BUILD:-} in
*asan*) echo "skip more memory than there is: AddressSanitizer needs an address space without limit" ;;
*)
    (ulimit -v 900000 && exec "$quern" train recipes/cnn-32-64-64.json --set 'data={"digits":2000,"validation":0.1}' \
        --set batch=1024 --set 'model[0].conv=512' --epochs 1 --out "$dir/runs") >"$dir/out" 2>"$dir/err"
    code=$?
    if [ $code = 5 ] && [ ! -d "$dir/runs" ] && [ "$(wc -l <"$dir/err")" = 1 ] &&
        grep -qE "^error E5001 memory: host: needs $number GiB \\(weights $number, optimizer $number, \
activations $number, workspace $number\\); have 0\\.[0-9]+ GiB; largest batch that fits: [0-9]+\$" "$dir/err"; then
        echo "ok more memory than there is"
    else
        echo "not ok more memory than there is: exit code $code"
        cat "$dir/err"
        failed=1
    fi
    ;;
esac
exit $failed
