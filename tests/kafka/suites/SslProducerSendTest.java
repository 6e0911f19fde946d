// Kafka's own SslProducerSendTest, with certificates that an agent can stand in for. The tests themselves are inherited.
//
// What differs: the brokers have a certificate of the authority in CERTIFICATES, in place of ones that they sign
// themselves; clients and brokers also trust this authority; and the brokers' TLS listeners are at a name of their own
// (TLS_NAME in sides.py), so that the agent can tell them from the listeners without TLS, whose ports are as random.

package kveil;

import java.io.File;
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import kafka.server.KafkaConfig;
import org.apache.kafka.common.config.types.Password;
import org.apache.kafka.test.TestSslUtils;
import scala.collection.Seq;
import scala.jdk.javaapi.CollectionConverters;

public class SslProducerSendTest extends kafka.api.SslProducerSendTest {
  private static final File CERTIFICATES = new File(System.getProperty("kveil.suites.certificates"));
  private static final String TLS_NAME = System.getProperty("kveil.suites.tlsName");

  public SslProducerSendTest() throws Exception {
    try (InputStream file = new FileInputStream(new File(CERTIFICATES, "suites.ca.pem"))) {
      X509Certificate authority = (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(file);
      // What Kafka's helper adds later for each broker joins it in the same file, under the same password.
      TestSslUtils.createTrustStore(trustStoreFile().get().getPath(), new Password("TrustStorePassword"), Map.of("suites", authority));
    }
  }

  @Override
  public Seq<KafkaConfig> generateConfigs() {
    List<KafkaConfig> configs = new ArrayList<>();
    CollectionConverters.asJava(super.generateConfigs()).forEach(config -> configs.add(withCertificateOfTheAuthority(config)));
    return CollectionConverters.asScala(configs);
  }

  private static KafkaConfig withCertificateOfTheAuthority(KafkaConfig config) {
    Properties settings = new Properties();
    settings.putAll(config.originals());
    for (String name : List.of("listeners", "advertised.listeners")) {
      settings.computeIfPresent(name, (key, value) -> value.toString().replace("SSL://localhost", "SSL://" + TLS_NAME));
    }
    settings.put("ssl.keystore.type", "PEM");
    settings.put("ssl.keystore.location", new File(CERTIFICATES, "broker.pem").getPath());
    settings.remove("ssl.keystore.password");
    settings.remove("ssl.key.password");
    return KafkaConfig.fromProps(settings);
  }
}
