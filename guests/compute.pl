# Hashes, regular expressions and sorting, until told to finish.
use strict;
use warnings;
$| = 1;

sub one_round {
    my %count;
    my $text = join ' ', map { 'w' . ($_ * 7919 % 1009) } 1 .. 30000;
    $count{$1}++ while $text =~ /w(\d+)/g;
    my $sum = 0;
    $sum = ($sum * 31 + $_ * $count{$_}) % 1000003 for sort { $a <=> $b } keys %count;
    return $sum;
}

my $first = one_round();
print "ready\n";
while (1) {
    my $input = '';
    vec($input, 0, 1) = 1;
    if (select($input, undef, undef, 0)) {
        sysread(STDIN, my $line, 4096) or last;
        last if $line =~ /finish/;
    }
    one_round() == $first or die "a round differs\n";
}
print "compute.pl: $first\n";
