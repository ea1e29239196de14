"""Who asks. In a module of its own: REST framework imports it while it is itself imported."""

from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed


class ByGateway(BaseAuthentication):
    """The user whom the gateway in front names."""

    def authenticate(self, request):
        """Return the user."""
        try:
            return User.objects.get(username=request.headers.get("X-User-ID", "")), None
        except User.DoesNotExist:
            raise AuthenticationFailed from None

    def authenticate_header(self, request):
        """Say how, as a 401 must."""
        return "Gateway"
