#!/bin/sh
# The programs of examples/ compile as a user would compile them, and do what their first lines say.
# run-tests: timeout 300
cd "$(dirname "$0")/../.." || exit 1
top=$PWD
build=${QN_BUILD:-build/release}
case $build in /*) ;; *) build=$top/$build ;; esac
status=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
sanitize=
case $build in
*asan) sanitize=-fsanitize=address,undefined ;;
*ubsan) sanitize=-fsanitize=undefined ;;
esac
verdict() { # name, then what must be 0
    if [ "$2" = 0 ]; then echo "ok $1"; else cat "$dir/log"; echo "not ok $1"; status=1; fi
}
for name in loop train classify; do
    gcc -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror $sanitize -Iinclude "examples/$name.c" -o "$dir/$name" \
        "$build/libquern.a" -fopenmp -ldl -ldnnl -ljansson -lpng -lz -lm >"$dir/log" 2>&1
    verdict "examples/$name.c compiles" $?
done
cd "$dir" || exit 1
awk 'BEGIN { print "a,b,class"; for (i = 0; i < 400; i++) { a = i * 37 % 101; b = i * 53 % 97;
     print a "," b "," (a > b ? "more" : "less") } }' >table.csv
./loop table.csv class 30 >log 2>&1 && awk '/accuracy/ { good = $NF > 0.9 } END { exit !good }' log
verdict "loop: learns which number is larger" $?
./loop table.csv clas >log 2>&1
[ $? = 3 ] && grep -q '^error E3035 data: table.csv:1: column "clas" not found among 3; did you mean "class"?$' log
verdict "loop: names the column it does not find" $?
echo '{ "quern": 1, "data": { "digits": 200, "validation": 0.2 }, "model": [{ "linear": 10 }], "epochs": 3 }' >net.json
./train net.json epochs=1 >log 2>&1 && grep -q '^runs/net-1: best epoch 1, validation loss ' log
verdict "train: a run from a recipe" $?
./train net.json epchs=1 >log 2>&1
[ $? = 2 ] && grep -q 'epchs: unknown key; did you mean "epochs"?$' log
verdict "train: a mistake in an option" $?
png=$top/docs/pictures/samples.png
./classify runs/net-1 "$png" >log 2>&1 && grep -q "^$png: [0-9], [0-9.]* %\$" log
verdict "classify: what a network says of a picture" $?
./classify runs/net-1 nope.png >log 2>&1
[ $? = 6 ] && grep -q '^error E6001 io: nope.png: open: No such file or directory$' log
verdict "classify: no such picture" $?
exit $status
