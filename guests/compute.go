// Goroutines, channels and a busy garbage collector, until told to finish.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"sync"
)

type tree struct {
	left, right *tree
	value       int
}

func grow(depth int) *tree {
	if depth == 0 {
		return &tree{value: 1}
	}
	return &tree{grow(depth - 1), grow(depth - 1), depth}
}

func (t *tree) sum() int {
	if t == nil {
		return 0
	}
	return t.value + t.left.sum() + t.right.sum()
}

func round() [32]byte {
	var all sync.WaitGroup
	results := make([][32]byte, 16)
	work := make(chan int)
	for w := 0; w < 8; w++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for n := range work {
				results[n] = sha256.Sum256([]byte(fmt.Sprint(n, grow(13).sum())))
			}
		}()
	}
	for n := range results {
		work <- n
	}
	close(work)
	all.Wait()
	var joined []byte
	for _, r := range results {
		joined = append(joined, r[:]...)
	}
	return sha256.Sum256(joined)
}

func main() {
	finish := make(chan bool)
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() && input.Text() != "finish" {
		}
		close(finish)
	}()
	first := round()
	fmt.Println("ready")
	for {
		select {
		case <-finish:
			runtime.GC()
			fmt.Printf("compute.go: %x\n", first)
			return
		default:
		}
		if round() != first {
			fmt.Println("a round differs")
			os.Exit(1)
		}
	}
}
