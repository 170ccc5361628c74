import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

/** Serves the paths that all servers under test know, with the JDK's own HTTP server. */
public class ShopJava {
    static void answer(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        boolean bare = status == 204 || exchange.getRequestMethod().equals("HEAD") || body.length == 0;
        exchange.sendResponseHeaders(status, bare ? -1 : body.length);
        if (!bare) {
            exchange.getResponseBody().write(body);
        }
        exchange.close();
    }

    static void shop(HttpExchange exchange) throws IOException {
        byte[] received = exchange.getRequestBody().readAllBytes();
        String path = exchange.getRequestURI().getPath();
        try {
            if (path.equals("/ok")) {
                answer(exchange, 200, "fine\n");
            } else if (path.startsWith("/items/")) {
                answer(exchange, exchange.getRequestMethod().equals("DELETE") ? 204 : 200, "an item\n");
            } else if (path.equals("/orders")) {
                answer(exchange, 201, received.length + " bytes\n");
            } else if (path.equals("/slow")) {
                Thread.sleep(20);
                answer(exchange, 200, "slow\n");
            } else if (path.equals("/busy")) {
                Thread.sleep(40);
                answer(exchange, 503, "");
            } else if (path.equals("/fail")) {
                answer(exchange, 500, "");
            } else if (path.equals("/stream")) {
                exchange.sendResponseHeaders(200, 0);
                for (int i = 0; i < 3; i++) {
                    exchange.getResponseBody().write("piece\n".getBytes(StandardCharsets.UTF_8));
                    exchange.getResponseBody().flush();
                    Thread.sleep(5);
                }
                exchange.close();
            } else {
                answer(exchange, 404, "no such thing\n");
            }
        } catch (InterruptedException error) {
            throw new IOException(error);
        }
    }

    public static void main(String[] arguments) throws IOException {
        String[] address = arguments[0].split(":");
        var server = HttpServer.create(new InetSocketAddress(address[0], Integer.parseInt(address[1])), 0);
        server.createContext("/", ShopJava::shop);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }
}
