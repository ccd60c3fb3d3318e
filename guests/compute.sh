# Shell arithmetic and strings with builtins only: it starts no other program.
round() {
    local i sum=0 text=
    for ((i = 0; i < 20000; i++)); do
        ((sum = (sum * 31 + i) % 1000003))
        text=${text:0:50}$((i % 10))
    done
    result=$sum-${#text}-${text//[0-4]/}
}
round
first=$result
echo ready
while :; do
    if read -r -t 0; then
        read -r line || break
        [[ $line == finish ]] && break
    fi
    round
    [[ $result == "$first" ]] || { echo "a round differs"; exit 1; }
done
echo "compute.sh: $first"
