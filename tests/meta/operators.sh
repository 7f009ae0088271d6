#!/bin/sh
# docs/operators.md says what core/ops.def says.
cd "$(dirname "$0")/../.." || exit 1
if scripts/operators | cmp -s - docs/operators.md; then
    echo "ok docs/operators.md is current"
else
    echo "not ok docs/operators.md is current; run scripts/docs"
    exit 1
fi
