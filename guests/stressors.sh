# Runs stressors of stress-ng one after the other, each for a moment, verifying itself, and says how each ended.
# stressors.sh SECONDS NAME...; OM_DETAILS names a file for what they complain about.
seconds=$1
shift
mkdir work && cd work || exit 1
for name; do
    timeout --kill-after=5 120 stress-ng --quiet --verify --no-rand-seed --temp-path . --timeout "$seconds" \
        "--$name" 1 < /dev/null >> "${OM_DETAILS:-/dev/null}" 2>&1
    status=$?
    case $status in
    0) echo "ok $name" ;;
    3 | 4) echo "skip $name: not here, $status" ;;
    *) echo "FAIL $name: status $status" ;;
    esac
done
cd .. && rm -rf work
