#!/bin/sh
# Every error code that Quern can report is named by a test. (That each is raised somewhere, scripts/lint checks.)
cd "$(dirname "$0")/../.." || exit 1
codes=$(sed -n 's/^ERR(\([0-9]*\),.*/\1/p' core/errors.def)
[ -n "$codes" ] || { echo "not ok core/errors.def has rows"; exit 1; }
# A code in a test stands as a number of its own or as E and the number.
named=$(grep -rhoE --include='*.c' --include='*.h' --include='*.sh' --include='*.py' --include='*.tsv' \
    --include='*.txt' \
    '\bE?[2-9][0-9]{3}\b' tests | tr -d E | sort -u)
missing=
for code in $codes; do
    printf '%s\n' "$named" | grep -qx "$code" || missing="$missing $code"
done
if [ -n "$missing" ]; then
    echo "no test names:$missing"
    echo "not ok every error code is named by a test"
    exit 1
fi
echo "ok every error code is named by a test"
