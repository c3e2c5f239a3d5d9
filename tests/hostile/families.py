"""All families of scenarios."""

from tests.hostile.administration import ADMINISTRATION
from tests.hostile.endings import ENDINGS
from tests.hostile.logins import LOGINS
from tests.hostile.matching import MATCHING
from tests.hostile.memory import MEMORY
from tests.hostile.publishing import PUBLISHING
from tests.hostile.queues import QUEUES
from tests.hostile.stomp import STOMP
from tests.hostile.storage import STORAGE
from tests.hostile.transports import TRANSPORTS

FAMILIES = (PUBLISHING, MATCHING, QUEUES, ENDINGS, ADMINISTRATION, MEMORY, STORAGE, STOMP, TRANSPORTS, LOGINS)
