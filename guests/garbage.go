// Goroutines that make garbage, a collector that clears it up, and one sum. usage: garbage ROUNDS
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
)

type node struct {
	left, right *node
	value       int
}

func grow(depth, value int) *node {
	if depth == 0 {
		return &node{value: value}
	}
	return &node{grow(depth-1, 2*value), grow(depth-1, 2*value+1), value}
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.value + n.left.sum() + n.right.sum()
}

func main() {
	runtime.GOMAXPROCS(4)
	rounds, _ := strconv.Atoi(os.Args[1])
	for round := 0; round < rounds; round++ {
		results := make(map[int]int)
		var lock sync.Mutex
		var all sync.WaitGroup
		for worker := 0; worker < 8; worker++ {
			all.Add(1)
			go func(worker int) {
				defer all.Done()
				sum := 0
				for i := 0; i < 20; i++ {
					sum += grow(12, worker+i).sum()
				}
				lock.Lock()
				results[worker] = sum
				lock.Unlock()
			}(worker)
		}
		all.Wait()
		if round%3 == 0 {
			runtime.GC()
		}
		workers := make([]int, 0)
		for worker := range results {
			workers = append(workers, worker)
		}
		sort.Ints(workers)
		for _, worker := range workers {
			fmt.Println(round, worker, results[worker])
		}
	}
	os.Exit(4)
}
