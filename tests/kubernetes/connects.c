// connects ADDRESS PORT FILE: until there is the file, connects again and again, asks for the API versions on each
// connection, and prints how often it was answered, how often the connect failed, how often there was no answer, and
// the longest time in milliseconds that an answer took.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// ApiVersions v0 with correlation id 1, without a client id.
static const unsigned char kRequest[] = {0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff};

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1000 + (double)now.tv_nsec / 1e6;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  setbuf(stdout, NULL);
  struct sockaddr_in broker = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &broker.sin_addr);
  int answered = 0, failed = 0, silent = 0;
  double longest = 0;
  for (; access(argv[3], F_OK) != 0; usleep(50000)) {
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    const double began = Now();
    unsigned char answer[8];
    if (connect(client, (struct sockaddr*)&broker, sizeof(broker)) != 0) {
      ++failed;
    } else if (send(client, kRequest, sizeof(kRequest), MSG_NOSIGNAL) != (ssize_t)sizeof(kRequest) ||
               recv(client, answer, sizeof(answer), MSG_WAITALL) != (ssize_t)sizeof(answer)) {
      ++silent;
    } else {
      if (++answered == 1) puts("began");
    }
    if (Now() - began > longest) longest = Now() - began;
    close(client);
  }
  printf("answered=%d failed=%d silent=%d longest=%.0f\n", answered, failed, silent, longest);
  return 0;
}
