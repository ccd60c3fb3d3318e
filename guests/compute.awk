# Words counted and sorted, one round for each line of input.
function round(   n, text, words, count, sum, i, all) {
    sum = 0
    for (n = 0; n < 60000; n++) {
        text = "w" (n * 7919) % 1009
        count[text]++
    }
    for (text in count)
        sum += count[text] * length(text)
    all = split("the quick brown fox jumps over the lazy dog", words, " ")
    for (i = 1; i <= all; i++)
        sum += length(toupper(words[i])) * i
    return sum
}
BEGIN { print "ready"; fflush(); first = round() }
$0 == "finish" { exit }
{ for (turn = 0; turn < 8; turn++) if (round() != first) { print "a round differs"; exit 1 } }
END { print "compute.awk: " first }
