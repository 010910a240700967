// Sends frames without end, at a chosen rate, over interfaces that come, go and change their names.
//
// Usage: flood RATE COUNT < LINES, where a line is the name of an interface, a space and a frame
// in hexadecimal, and COUNT a file of eight bytes in which the number of frames that the interfaces
// took can be read meanwhile. It says "ready", sends until SIGTERM, and says that number and in how
// many seconds.
//
// Frames go to the driver past the queueing discipline, many with one system call, so that two
// processors are enough for the flood and for what it tries. An interface that is not there is
// looked for by its name again and again.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum { FRAMES = 512, LINKS = 64, FRAME_BYTES = 256, LEAST_BATCH = 16 };

static const uint64_t SECOND_NS = 1000000000;
// How long an interface that could not be sent to is left alone: system calls that fail cost, too.
static const uint64_t REST_NS = 100000;
// A sender that was kept from the processor does not make up for more than this.
static const uint64_t CATCH_UP_NS = 5000000;

struct link {
	char name[IFNAMSIZ];
	struct sockaddr_ll to;
	uint64_t rests_until;
	unsigned int count;
	struct mmsghdr messages[FRAMES];
	struct iovec pieces[FRAMES];
	unsigned char frames[FRAMES][FRAME_BYTES];
};

static struct link *links[LINKS];
static unsigned int link_count;
static volatile sig_atomic_t ended;

static void end(int number)
{
	(void)number;
	ended = 1;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + now.tv_nsec;
}

static struct link *link_of(const char *name)
{
	for (unsigned int n = 0; n < link_count; n++)
		if (!strcmp(links[n]->name, name))
			return links[n];
	if (link_count == LINKS) {
		errno = E2BIG;
		fail(name);
	}
	struct link *link = calloc(1, sizeof(*link));
	if (!link)
		fail("calloc");
	strncpy(link->name, name, IFNAMSIZ - 1);
	link->to.sll_family = AF_PACKET;
	links[link_count++] = link;
	return link;
}

static void read_frames(void)
{
	char line[2 * FRAME_BYTES + IFNAMSIZ + 2], name[IFNAMSIZ], text[2 * FRAME_BYTES + 1];

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%15s %512s", name, text) != 2)
			continue;
		struct link *link = link_of(name);
		unsigned int n = link->count++;
		size_t size = strlen(text) / 2;

		if (n == FRAMES) {
			errno = E2BIG;
			fail(name);
		}
		for (size_t at = 0; at < size; at++)
			sscanf(text + 2 * at, "%2hhx", &link->frames[n][at]);
		link->pieces[n] = (struct iovec){ link->frames[n], size };
		link->messages[n].msg_hdr = (struct msghdr){
			.msg_name = &link->to,
			.msg_namelen = sizeof(link->to),
			.msg_iov = &link->pieces[n],
			.msg_iovlen = 1,
		};
	}
	// What one system call sends is at least a small batch: a few frames are repeated.
	for (unsigned int n = 0; n < link_count; n++) {
		struct link *link = links[n];
		unsigned int given = link->count;

		for (; link->count < LEAST_BATCH; link->count++)
			link->messages[link->count] = link->messages[link->count % given];
	}
}

// How many frames an interface took.
static unsigned int send_over(int sock, struct link *link)
{
	if (now_ns() < link->rests_until)
		return 0;
	if (!link->to.sll_ifindex)
		link->to.sll_ifindex = if_nametoindex(link->name);
	if (link->to.sll_ifindex) {
		int sent = sendmmsg(sock, link->messages, link->count, 0);

		if (sent > 0)
			return sent;
		// Both mean that the index is of no interface any more; others pass by themselves.
		if (errno == ENXIO || errno == ENODEV)
			link->to.sll_ifindex = 0;
	}
	link->rests_until = now_ns() + REST_NS;
	return 0;
}

static volatile uint64_t *shared_count(const char *path)
{
	int file = open(path, O_RDWR);
	void *memory;

	if (file < 0)
		fail(path);
	memory = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED)
		fail(path);
	return memory;
}

int main(int count, char **words)
{
	const uint64_t rate = count == 3 ? strtoull(words[1], NULL, 10) : 0;
	const int on = 1;

	if (!rate) {
		fprintf(stderr, "usage: flood RATE COUNT < LINES\n");
		return 2;
	}
	volatile uint64_t *sent = shared_count(words[2]);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, end);
	read_frames();
	// Protocol 0: nothing that arrives is wanted.
	int sock = socket(AF_PACKET, SOCK_RAW, 0);
	if (sock < 0 || setsockopt(sock, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)))
		fail("packet socket");
	puts("ready");
	fflush(stdout);

	const uint64_t begun = now_ns();
	uint64_t due = begun;
	while (!ended) {
		unsigned int round = 0;

		for (unsigned int n = 0; n < link_count; n++)
			round += send_over(sock, links[n]);
		*sent += round;
		due += (round ? round : LEAST_BATCH) * SECOND_NS / rate;
		uint64_t now = now_ns();
		if (due + CATCH_UP_NS < now)
			due = now - CATCH_UP_NS;
		if (due > now) {
			struct timespec pause = { 0, due - now };

			nanosleep(&pause, NULL);
		}
	}
	printf("%llu %.3f\n", (unsigned long long)*sent, (now_ns() - begun) / 1e9);
	return 0;
}
