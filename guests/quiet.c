/* Does nothing but wait for its end; the subject of refusals. */
#include "guest.h"

int main(void)
{
    ready();
    while (!asked_to_finish(1000))
        ;
    puts("unharmed");
    return 0;
}
