import io.kroxylicious.proxy.KafkaProxy;
import io.kroxylicious.proxy.config.ConfigParser;
import io.kroxylicious.proxy.internal.config.Features;
import java.nio.file.Files;
import java.nio.file.Path;

/** Runs Kroxylicious with the configuration file of the argument until it is killed; prints "ready" when it listens. */
public final class Peer {
    public static void main(String[] arguments) throws Exception {
        ConfigParser parser = new ConfigParser();
        String configuration = Files.readString(Path.of(arguments[0]));
        KafkaProxy proxy = new KafkaProxy(parser, parser.parseConfiguration(configuration), Features.defaultFeatures());
        proxy.startup();
        System.out.println("ready");
        proxy.block();
    }
}
