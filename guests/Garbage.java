import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Threads that make garbage, a collector that clears it up, and sums. usage: Garbage ROUNDS */
public class Garbage {
    static long work(int worker, int round) {
        long sum = 0;
        for (int i = 0; i < 30; i++) {
            Map<String, byte[]> map = new HashMap<>();
            for (int key = 0; key < 2000; key++) {
                map.put("key" + key * worker, new byte[(key * 7 + round) % 500]);
            }
            for (Map.Entry<String, byte[]> entry : map.entrySet()) {
                sum += entry.getKey().hashCode() % 1000 + entry.getValue().length;
            }
        }
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        int rounds = Integer.parseInt(arguments[0]);
        ExecutorService pool = Executors.newFixedThreadPool(6);
        for (int round = 0; round < rounds; round++) {
            List<Future<Long>> sums = new ArrayList<>();
            for (int worker = 1; worker <= 12; worker++) {
                int number = worker, turn = round;
                sums.add(pool.submit((Callable<Long>) () -> work(number, turn)));
            }
            StringBuilder line = new StringBuilder("round " + round + ":");
            for (Future<Long> sum : sums) {
                line.append(' ').append(sum.get());
            }
            System.out.println(line);
            if (round % 4 == 3) {
                System.gc();
            }
        }
        pool.shutdown();
        System.exit(3);
    }
}
